"""All cryptography: keys, certificates, signatures, envelopes, passwords and TLS; secrets are compared nowhere else."""
