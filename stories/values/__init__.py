"""Values without rows: combos, money, prices, texts, addresses."""
