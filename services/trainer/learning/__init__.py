"""Algorithm 1 of the paper: contrastive learning of the embedder and RLSO of the policy, through two small ports.

It knows no gRPC, no Redis and no proto; the control plane beside it does.
"""
