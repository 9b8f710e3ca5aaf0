// Package linearizable checks recorded histories of concurrent calls against a map that does one call at a time. It is a
// module of its own, so that who embeds mapfile does not pull in the checker.
package linearizable
