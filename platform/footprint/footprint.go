// Package footprint keeps what an idle process occupies small, and what a busy one
// looks at near.
package footprint
