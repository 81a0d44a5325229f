"""torch-sim as the engine of MD; imported only when a recipe asks for it."""
