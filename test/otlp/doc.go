// Package otlp checks what the program sends as traces with the decoder of the
// OpenTelemetry Collector itself. It is a module of its own so that this code
// stays out of the program.
package otlp
