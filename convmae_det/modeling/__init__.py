"""The paper's nouns, one file each."""
