"""What pretrain.py is made of: recipes, the log, what is watched, when it saves, stops and resumes."""
