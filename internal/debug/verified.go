//go:build !mapfile_unverified

package debug

// Verify is true but in builds that measure what the verification of sums costs a Get.
const Verify = true
