"""How good a map is: honest splits, figures with their intervals, areas of a stratified sample."""
