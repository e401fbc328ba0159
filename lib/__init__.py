"""Siamese Masked Autoencoders, reproduced: the code behind the numbered notebooks."""
