"""Networks and the LightningModules around them, one file per architecture."""
