"""Models on this computer and on the hub: what is here, what fits this machine, and downloads that can be continued."""
