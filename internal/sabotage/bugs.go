package sabotage

// Bug is a bug that can be planted; 0 is none.
type Bug uint8

// The bugs. planted describes each.
const (
	_ Bug = iota

	// Syncs that are left out.
	DropTailSync
	SyncOwnRecords
	SyncFirstSpan
	SyncSkipsHeaders
	DropLongSync
	DropExplicitSync
	DropIntervalSync
	TxSyncIgnored
	DropCheckpointSync
	DropMetaSync
	DropLifeSync
	DropLifeMetaSync
	DropTailRewrite
	DropReplaySync
	ReplayUnmarked
	ReplayPinned
	DropCreateSync
	DropDirSync

	// Ordered steps that are swapped.
	SlotBeforeRecord
	PublishBeforeSlots
	PublishBeforeSync
	PointBeforePublish
	MarkBeforeSync
	MetaBeforeSync
	ReleaseBeforeMeta
	ReuseBeforeBump
	SealTakesPresent

	// The rules of the log and of recovery.
	DropSegmentHeader
	CutAtFirstBad
	LaterValidIsDamage
	MarkIgnored
	WitnessIgnored
	MarkSumUnchecked
	HalfCommits
	AbortIgnored
	AbortOmitted
	AbortDroppedEarly
	UndoOmitted
	UndoToOwn
	UndoKeepsNew
	LoadPublishedEarly
	LoadIgnoresError
	AllocateBeforeWalk
	ReplaySkipsDrop
	ReplaySkipsRetire
	DropUnlogged
	RetireUnlogged
	ReplayReadsOld
	SameSegment
	LenMiscounted
	MovedCounted
	LateEpoch
	EpochsNotSkipped
	ImagesOfPresent
	OneMeta
	TwoImages
	CleanTooEarly
	RootUnchecked
	NewerVersionIgnored
	ReadOnlyBegins

	// Reclamation and compaction.
	ReuseOneEarly
	SegmentOneEarly
	GenerationNotRaised
	PinsIgnored
	FreeAtOnce
	ViewsReleasedEarly
	ZeroHeaderOmitted
	ZeroHeaderLate
	StaleHeadersKept
	HeaderCopyLeft
	TombstoneDroppedEarly
	LeavingForgotten
	MovedWithoutSequence
	MoveUnverified
	TrustCounters
	RetireUnread
	RetireRotten
	RetireBeforePublished
	GiveUntaken
	PunchRetired
	CutNeeded
	DropKeepsFloor
	ReplayKeepsFloor
	LossKeepsFloor
	BackupUnsynced

	// Merging.
	JoinLosesBuddy
	JoinKeepsDepth
	LiftKeepsSecondHash
	OwedForgotten
	ScanRepeatsJoined
	DropStandsAlone

	// Readers.
	SlotBeforeSequence
	SequenceIgnored
	ValidateEarly
	PinAfterSequence
	ViewPinsLate
	SumOfOriginal
	KeyUncompared

	// Sums.
	ValueSumUnchecked
	HeaderSumUnchecked
	RecordSumWithoutPlace
	RecordSumWithoutSalt
	PageUnverified
	PageSumUnchecked
	PageWithoutPlace
	EpochTagUnchecked
	ImageSumUnchecked
	MetaSumUnchecked
	SecondHashLosesKey
	MendUnchecked
	RefusedOpenMends
	TrustForEver

	// Failures.
	RetryTailSync
	RetryFileSync
	SyncErrorIgnored
	SharedDescription
	FailureForgotten
	FailedMapReads
	FollowerTrustsLeader
	EmptyCommitUnsynced
	AdmitAll
	ReserveForAll

	// The file and who opens it.
	LockNotTaken
	ReadOnlyUnlocked
	CloseIgnoresPins
	CloseUnbumped
	PathUnchecked
	CutUnnoticed
	ReplacedWhileLocking

	numBugs
)

var planted = [numBugs]Planted{
	DropTailSync:       {"DropTailSync", "the log is not synced before a commit is acknowledged", "I5"},
	SyncOwnRecords:     {"SyncOwnRecords", "a commit syncs its own records only, not the log before them", "I5, hole 4: ownRange"},
	SyncFirstSpan:      {"SyncFirstSpan", "a sync stops at the end of a segment", "I5"},
	SyncSkipsHeaders:   {"SyncSkipsHeaders", "a sync leaves segment headers out", "I5"},
	DropLongSync:       {"DropLongSync", "a span of the log above 1 MiB is not synced", "I5"},
	DropExplicitSync:   {"DropExplicitSync", "DB.Sync returns without a sync", "I5"},
	DropIntervalSync:   {"DropIntervalSync", "SyncInterval never syncs", "SyncInterval"},
	TxSyncIgnored:      {"TxSyncIgnored", "a transaction's own SyncAlways is ignored", "TxOptions.Sync"},
	DropCheckpointSync: {"DropCheckpointSync", "a checkpoint does not sync the file before its meta page", "I3"},
	DropMetaSync:       {"DropMetaSync", "a checkpoint's meta page is left in the page cache", "I4"},
	DropLifeSync:       {"DropLifeSync", "the beginning of a life does not sync what its meta pages name", "hole 9"},
	DropLifeMetaSync:   {"DropLifeMetaSync", "the meta pages of a life are left in the page cache", "hole 9"},
	DropTailRewrite:    {"DropTailRewrite", "recovery does not write the walked tail again", "hole 6"},
	DropReplaySync:     {"DropReplaySync", "an open that has replayed the walked tail does not make it durable", "recovery, step 5"},
	ReplayUnmarked:     {"ReplayUnmarked", "an open that has made the walked tail durable leaves the mark page as it was", "recovery, step 5"},
	ReplayPinned:       {"ReplayPinned", "who reads behind an open holds what its replay gave up", "hole 22"},
	DropCreateSync:     {"DropCreateSync", "a new map gets its name before its content is synced", "creation"},
	DropDirSync:        {"DropDirSync", "the directory of a new map is not synced", "creation"},

	SlotBeforeRecord:   {"SlotBeforeRecord", "slots lead to records that are still in the buffer", "commit, steps 3 and 4"},
	PublishBeforeSlots: {"PublishBeforeSlots", "a commit is published before its slots are set", "I6; reader order 1"},
	PublishBeforeSync:  {"PublishBeforeSync", "a commit that demands a sync is published at once", "commit, steps 6 and 7"},
	PointBeforePublish: {"PointBeforePublish", "a split's buckets are linked before they are trusted", "I6"},
	MarkBeforeSync:     {"MarkBeforeSync", "the mark page is written before the sync it tells of", "mark, A1"},
	MetaBeforeSync:     {"MetaBeforeSync", "a checkpoint writes its meta page before it syncs the file", "I3"},
	ReleaseBeforeMeta:  {"ReleaseBeforeMeta", "a checkpoint frees space before its meta page is written", "I4"},
	ReuseBeforeBump:    {"ReuseBeforeBump", "space is handed over before the generation is raised", "I6, hole 16; reader order 4"},
	SealTakesPresent:   {"SealTakesPresent", "a checkpoint's meta page names the log's end of when it is written", "seal, hole 8"},

	DropSegmentHeader:   {"DropSegmentHeader", "the header of a segment is not stored", "append"},
	CutAtFirstBad:       {"CutAtFirstBad", "a bad record is the end of the log, whatever the marks say", "hole 1"},
	LaterValidIsDamage:  {"LaterValidIsDamage", "a valid record behind a bad one proves damage", "hole 1: laterValid"},
	MarkIgnored:         {"MarkIgnored", "the mark page is not read", "hole 2"},
	WitnessIgnored:      {"WitnessIgnored", "records behind a bad one are no witnesses", "hole 2"},
	MarkSumUnchecked:    {"MarkSumUnchecked", "the sum of the mark page is not checked", "mark"},
	HalfCommits:         {"HalfCommits", "a commit counts from its first record on", "P2"},
	AbortIgnored:        {"AbortIgnored", "an aborted commit is replayed", "ABORT"},
	AbortOmitted:        {"AbortOmitted", "a load that is taken back leaves no ABORT", "I2; ABORT"},
	AbortDroppedEarly:   {"AbortDroppedEarly", "an ABORT goes though a record of its commit may be in the log", "ABORT, hole 22"},
	UndoOmitted:         {"UndoOmitted", "a load that is taken back leaves its slots as they are", "I2; ABORT"},
	UndoToOwn:           {"UndoToOwn", "a slot is taken back to an earlier record of the same load", "ABORT"},
	UndoKeepsNew:        {"UndoKeepsNew", "slots of keys that were new stay when a load is taken back", "ABORT"},
	LoadPublishedEarly:  {"LoadPublishedEarly", "a load publishes what it has stored so far", "I6; commit, step 7"},
	LoadIgnoresError:    {"LoadIgnoresError", "a load keeps what was put before its function failed", "BulkLoad"},
	AllocateBeforeWalk:  {"AllocateBeforeWalk", "the walked tail stays in the free space", "hole 7: noExclude"},
	ReplaySkipsDrop:     {"ReplaySkipsDrop", "replay leaves DROP records out", "I2"},
	ReplaySkipsRetire:   {"ReplaySkipsRetire", "replay leaves RETIRE records out", "I2"},
	DropUnlogged:        {"DropUnlogged", "a tombstone's slot goes without a record", "I2, hole 11: unloggedDrop"},
	RetireUnlogged:      {"RetireUnlogged", "a segment is retired without a record", "I2, hole 10d: noRetire"},
	ReplayReadsOld:      {"ReplayReadsOld", "replay finds slots by the keys of old records, not by position", "hole 10c: keyCompare"},
	SameSegment:         {"SameSegment", "a life that replayed goes on where the log was cut, in the segment of the life before", "I1, hole 3: sameSeg"},
	LenMiscounted:       {"LenMiscounted", "replay does not count a key that comes back after its deletion", "Len"},
	MovedCounted:        {"MovedCounted", "replay counts moved tombstones again", "Len"},
	LateEpoch:           {"LateEpoch", "the epoch ends when the checkpoint is durable, not at the seal", "hole 8: lateEpoch"},
	EpochsNotSkipped:    {"EpochsNotSkipped", "recovery goes on with the epoch behind the meta page's, which pages of the life that died may bear", "recovery, step 6"},
	ImagesOfPresent:     {"ImagesOfPresent", "a checkpoint's images show free space and segments as they are when it stores them, not as they were sealed", "seal, hole 8"},
	OneMeta:             {"OneMeta", "a life begins with one meta page", "hole 9: oneMeta"},
	TwoImages:           {"TwoImages", "the two meta pages of a life name images of their own", "hole 9: twoImages"},
	CleanTooEarly:       {"CleanTooEarly", "every checkpoint says that nothing will follow it", "meta page"},
	RootUnchecked:       {"RootUnchecked", "the root page is not looked at when the meta page is chosen", "choose"},
	NewerVersionIgnored: {"NewerVersionIgnored", "a meta page of a newer version counts as damaged", "hole 14"},
	ReadOnlyBegins:      {"ReadOnlyBegins", "a read-only open begins a life", "ReadOnly"},

	ReuseOneEarly:         {"ReuseOneEarly", "index pages are free after one checkpoint", "I4, hole 10a: reuse1"},
	SegmentOneEarly:       {"SegmentOneEarly", "every segment is free after one checkpoint", "I4, hole 10b: segNaive"},
	GenerationNotRaised:   {"GenerationNotRaised", "the generation is not raised before pages are reused", "I6"},
	PinsIgnored:           {"PinsIgnored", "what a reader has pinned is reused", "I6"},
	FreeAtOnce:            {"FreeAtOnce", "pages allocated and retired in one epoch do not wait for readers", "I6"},
	ViewsReleasedEarly:    {"ViewsReleasedEarly", "a replaced mapping goes while a reader has it pinned", "I6"},
	ZeroHeaderOmitted:     {"ZeroHeaderOmitted", "the header of a freed segment stays", "hole 22"},
	ZeroHeaderLate:        {"ZeroHeaderLate", "the header of a freed segment is zeroed when its pages have been handed over", "reclamation"},
	StaleHeadersKept:      {"StaleHeadersKept", "recovery does not zero the headers of segments that the life before had let go of", "hole 22"},
	HeaderCopyLeft:        {"HeaderCopyLeft", "recovery leaves a copy of a segment's header as a power cut left it", "segment header"},
	TombstoneDroppedEarly: {"TombstoneDroppedEarly", "a tombstone goes though an older record of its key may be in the log", "hole 22"},
	LeavingForgotten:      {"LeavingForgotten", "a tombstone goes though a retired segment whose header is not durably zeroed may hold an older record of its key", "hole 22"},
	MovedWithoutSequence:  {"MovedWithoutSequence", "a moved record does not say since when it is visible", "MOVED"},
	MoveUnverified:        {"MoveUnverified", "compaction moves a rotten value and sums it anew", "hole 23"},
	TrustCounters:         {"TrustCounters", "a segment without live bytes is retired unread", "hole 23"},
	RetireUnread:          {"RetireUnread", "compaction takes a record that it cannot read for the end of its segment", "hole 23"},
	RetireRotten:          {"RetireRotten", "compaction leaves a rotten record where it is and retires its segment", "hole 23"},
	RetireBeforePublished: {"RetireBeforePublished", "a segment is retired, and space released, before what replaces it is published", "hole 19; reader order 7"},
	GiveUntaken:           {"GiveUntaken", "free units are punched and stay free", "hole 24: ErrFull"},
	PunchRetired:          {"PunchRetired", "a segment is punched when it is retired, before meta pages and readers let go of it", "I4, I6"},
	CutNeeded:             {"CutNeeded", "the file is cut though a meta page needs what is behind", "I4"},
	DropKeepsFloor:        {"DropKeepsFloor", "the history does not hear of a tombstone that compaction drops", "history"},
	ReplayKeepsFloor:      {"ReplayKeepsFloor", "the history does not hear of a tombstone whose DROP is replayed", "history"},
	LossKeepsFloor:        {"LossKeepsFloor", "the history does not hear of a loss that was accepted", "history"},
	BackupUnsynced:        {"BackupUnsynced", "a backup does not sync what it shows", "hole 31"},

	JoinLosesBuddy:      {"JoinLosesBuddy", "of eight buckets and more that are joined the slots of seven are kept", "merging"},
	JoinKeepsDepth:      {"JoinKeepsDepth", "a bucket made of eight and more says that it is as deep as before", "merging, plausible"},
	LiftKeepsSecondHash: {"LiftKeepsSecondHash", "a bucket that comes back above the second hash keeps its bits", "hole 21"},
	OwedForgotten:       {"OwedForgotten", "no room is kept for what a replay takes where buckets were joined since the checkpoint", "hole 24"},
	ScanRepeatsJoined:   {"ScanRepeatsJoined", "a scan by hash shows all of a bucket that was joined with one it has shown", "places"},
	DropStandsAlone:     {"DropStandsAlone", "a segment with DROPs goes while retired ones may hold what they dropped", "hole 22"},

	SlotBeforeSequence: {"SlotBeforeSequence", "GetMany loads slots before the sequence", "reader, step 1; reader order 2"},
	SequenceIgnored:    {"SequenceIgnored", "Get and Has see what is not published", "I6; reader order 3"},
	ValidateEarly:      {"ValidateEarly", "Get validates the generation before it has read the record", "hole 16; reader order 5"},
	PinAfterSequence:   {"PinAfterSequence", "GetFunc and GetMany pin after they have loaded the sequence", "reader order 6"},
	ViewPinsLate:       {"ViewPinsLate", "a snapshot pins after it has loaded the sequence", "reader order 6"},
	SumOfOriginal:      {"SumOfOriginal", "Get sums the value first and copies it then", "P4"},
	KeyUncompared:      {"KeyUncompared", "a tag that matches is taken for the key", "step 3 of a Get"},

	ValueSumUnchecked:     {"ValueSumUnchecked", "the sum of a value is not checked", "P4"},
	HeaderSumUnchecked:    {"HeaderSumUnchecked", "the header sum of a record is not checked", "hole 15"},
	RecordSumWithoutPlace: {"RecordSumWithoutPlace", "the sums of a record do not hold its position", "sums and salts"},
	RecordSumWithoutSalt:  {"RecordSumWithoutSalt", "the sums of a record do not hold the salt of the segment's use", "I1"},
	PageUnverified:        {"PageUnverified", "index pages are trusted unread", "hole 17"},
	PageSumUnchecked:      {"PageSumUnchecked", "the sum of an index page is not checked", "hole 17"},
	PageWithoutPlace:      {"PageWithoutPlace", "neither header nor sum of an index page is held against its number", "hole 13"},
	EpochTagUnchecked:     {"EpochTagUnchecked", "an index page of another epoch is accepted", "hole 13"},
	ImageSumUnchecked:     {"ImageSumUnchecked", "the sum of the images is not checked", "choose"},
	MetaSumUnchecked:      {"MetaSumUnchecked", "the sum of a meta page is not checked", "choose"},
	SecondHashLosesKey:    {"SecondHashLosesKey", "a bucket that goes on with the second hash loses a slot", "hole 21"},
	MendUnchecked:         {"MendUnchecked", "a flipped bit is guessed and not held against the sum", "mending"},
	RefusedOpenMends:      {"RefusedOpenMends", "an open that is refused leaves mended bits behind", "mending"},
	TrustForEver:          {"TrustForEver", "index pages that were verified once are never verified again", "hole 17"},

	RetryTailSync:        {"RetryTailSync", "a sync of the log that failed is tried again and believed", "I7"},
	RetryFileSync:        {"RetryFileSync", "a sync of the file that failed is tried again and believed", "I7"},
	SyncErrorIgnored:     {"SyncErrorIgnored", "a checkpoint goes on after its sync has failed", "I7"},
	SharedDescription:    {"SharedDescription", "checkpoints and commits sync on one description", "hole 5, A3"},
	FailureForgotten:     {"FailureForgotten", "a failed sync does not fail the map", "I7"},
	FailedMapReads:       {"FailedMapReads", "a failed map still answers", "ErrFailed"},
	FollowerTrustsLeader: {"FollowerTrustsLeader", "who waits for a leader does not look how far it synced", "I5"},
	EmptyCommitUnsynced:  {"EmptyCommitUnsynced", "a transaction that wrote nothing does not wait for what it saw", "commit, step 8"},
	AdmitAll:             {"AdmitAll", "commits are appended without a look at the room", "hole 24: ErrFull"},
	ReserveForAll:        {"ReserveForAll", "every commit may use the reserve of deletes", "hole 24"},

	LockNotTaken:         {"LockNotTaken", "the map is not locked", "ErrLocked"},
	ReadOnlyUnlocked:     {"ReadOnlyUnlocked", "a read-only open takes no lock", "hole 30"},
	CloseIgnoresPins:     {"CloseIgnoresPins", "Close does not wait for readers", "Close"},
	CloseUnbumped:        {"CloseUnbumped", "Close unmaps without raising the generation", "hole 16d"},
	PathUnchecked:        {"PathUnchecked", "a file that lost its name is still written", "ErrReplaced"},
	CutUnnoticed:         {"CutUnnoticed", "a file cut short beneath the map is still written", "ErrReplaced"},
	ReplacedWhileLocking: {"ReplacedWhileLocking", "a file that was replaced while the lock was awaited is opened", "open"},
}
