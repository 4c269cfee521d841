"""What is calculated, where results are kept, and who calculates them."""
