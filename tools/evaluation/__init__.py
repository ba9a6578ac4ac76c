"""How good an encoder is: linear probe, k-NN retrieval, late fusion, fine-tuning."""
