"""The instrument's own test: many small studies of a world whose truth is known.

A world is made of kept features. Its next token is drawn from softmax(C + kappa Q): C are the
classical logits of the most frequent words, and Q = U z is a hidden student whose z is a ring with
weights of its own, so the circuit has something true to find. kappa sets by how much the subject
beats a rival. In an A/A study the rival is the subject again, with other initial values and the
same data: no difference can be true.

What is sampled is what the intervals claim to cover. A unit is a few neighbouring rows. Half of the
texts are a pool of units for training, the others a pool of held-out units. Every study draws units
independently from both, with replacement, and the targets of every drawn unit anew. Every seed of a
study has its own initial values, order, and half of the study's training units. So the
truth is the mean difference over seeds, held-out units and training sets, and is estimated by the
mean of the other studies. Cases with few training sets tell what a training set shared by all seeds
contributes: drawing it anew with replacement cannot.

Contenders, training, losses and verdicts are the study's own. It has one rival and few words, and
nothing is tuned: what the tuning finds is tested by the study's regime *planted*.
"""
