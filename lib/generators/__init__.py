"""Generative models that the loop retrains: `ddpm` for points, `flow` (OT-CFM) for images."""
