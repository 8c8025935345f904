"""The configurations, installed as the package convmae_det.configs."""
