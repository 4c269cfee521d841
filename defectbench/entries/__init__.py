"""One model's published results: schema, folder, rescoring."""
