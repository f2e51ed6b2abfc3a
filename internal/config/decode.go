package config

func (c *Config) decode(data []byte) Errors { return nil }
