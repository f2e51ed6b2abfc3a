package config

func (c *Config) finish(earlier Errors) Errors { return nil }
