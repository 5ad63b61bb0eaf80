"""Names of Atropos's own flags, listed here because importing atroposlib takes seconds.

A test compares this list with the installed atroposlib. Flags that a run has too (`group_size`,
`base_url`) are not listed: `RunConfig` and `ServerConfig` define them.
"""

from __future__ import annotations

ATROPOS = (
    "--env.max_num_workers",
    "--env.max_eval_workers",
    "--env.max_num_workers_per_node",
    "--env.eval_handling",
    "--env.eval_limit_ratio",
    "--env.inference_weight",
    "--env.batch_size",
    "--env.max_batches_offpolicy",
    "--env.tokenizer_name",
    "--env.rollout_server_url",
    "--env.num_rollouts_to_keep",
    "--env.num_rollouts_per_group_for_logging",
    "--env.ensure_scores_are_not_same",
    "--env.data_dir_to_save_evals",
    "--env.min_items_sent_before_logging",
    "--env.include_messages",
    "--env.min_batch_allocation",
    "--env.worker_timeout",
    "--env.thinking_mode",
    "--env.reasoning_effort",
    "--env.max_reasoning_tokens",
    "--env.custom_thinking_prompt",
    "--openai.num_requests_for_eval",
    "--openai.rolling_buffer_length",
    "--openai.server_type",
    "--openai.tokenizer_name",
    "--openai.n_kwarg_is_ignored",
    "--openai.health_check",
    "--slurm",
    "--testing",
    "--max_n_completions",
    "--proxy_url",
)
"""Flags that `serve` and `evaluate` accept besides ours."""
