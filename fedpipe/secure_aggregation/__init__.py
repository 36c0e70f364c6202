"""Sums of integers that a coordinator learns without learning the summands: Bonawitz et al. 2017.

A library without a transport: sites and the coordinator turn bytes that arrived into bytes to send. The threat model,
and what is not claimed, is in docs/secure-aggregation.md. Experimental: nobody outside of the project has reviewed it.

Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4, with the
steps against an active adversary, https://eprint.iacr.org/2017/281.
"""
