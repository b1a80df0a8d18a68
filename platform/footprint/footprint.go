// Package footprint keeps small what an idle process occupies, and in huge pages
// what a busy one looks at.
package footprint
