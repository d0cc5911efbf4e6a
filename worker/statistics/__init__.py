"""Key statistics: the uncentred second moment C = E[k k^T]."""
