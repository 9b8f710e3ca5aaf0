// Package index finds the record of a key: extendible hashing in 4 KB pages.
//
// A trie of directory pages, FanoutBits hash bits a level, leads to buckets of
// open-addressed slots. A slot is a word {23-bit tag | 41-bit position in units of
// 8 bytes} in one of up to fifty 64-byte lines, and 16 more hash bits in an array
// behind them, so that a bucket splits without reading a record. Probing is linear
// and begins at a line computed from the stored bits; an empty slot ends it.
// Deleted keys keep a slot that leads to a tombstone; a slot whose tombstone was
// dropped is dead and keeps the probe chain. In one page a slot goes from empty to one
// key and then changes its position only; every other rearrangement is a fresh page.
//
// Merging takes back what deletes leave: neighbouring buckets that fit into one are joined, dead
// slots left out, directories made narrower or replaced by the one bucket they lead to.
//
// Keys whose first hash is used up (36 of its bits lead the trie, 39 are stored) go on
// by a second, keyed hash, so that any number of keys with equal first hashes
// stays O(1) each. There are no overflow chains.
//
// Pages are copied on write once per epoch: a page that a checkpoint can reach is
// never stored to, but for its sum, which the checkpoint fills in.
//
// Changing the index belongs to the holder of the writer's turn. Find, Next and
// BucketAt are for any number of goroutines; what they answer is to be believed only
// under a pin or after a generation check.
//
// Part of mapfile's implementation, no stable API.
package index
