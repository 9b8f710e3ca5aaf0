package mapfile

// fence orders the loads before it before the loads behind it. amd64 does so by itself.
func fence() {}
