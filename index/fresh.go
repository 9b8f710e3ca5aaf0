package index

import (
	"encoding/binary"

	"github.com/mapfile-db/mapfile/pager"
)

// Renew begins an empty index in fresh pages of the running epoch. The pages of the old one are not looked at and not
// retired: who calls it knows them. It belongs to the turn.
func (x *Index) Renew() error {
	bucket, _, err := x.fresh(TypeBucket)
	if err != nil {
		return err
	}
	x.publish(bucket)
	root, d, err := x.fresh(TypeDirectory)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(d[offTags:], uint16(x.Epoch))
	binary.LittleEndian.PutUint32(d[offChildren:], uint32(bucket))
	x.publish(root)
	x.Root = pager.Ref{Page: root, Epoch: x.Epoch}
	x.Buckets, x.Directories = 1, 1
	return nil
}
