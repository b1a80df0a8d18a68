// Package footprint keeps what an idle process occupies small.
package footprint
