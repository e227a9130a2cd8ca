# What the challenge calls in /workspace: one start, one case.
exec predict /workspace/inputs /workspace/outputs --model /opt/predict/model.safetensors
