// Package history keeps the figures of one job over time, bounded: what the job's page and qosctl top draw.
//
// The last lateReadings are kept as they came, one for each look of the controller. Of the whole life wholeReadings are kept at most, at
// even distances: when they are full every second one is dropped, and from then on every second reading is taken. What is kept is always
// a reading that was made, never a mean. Changes of phase, node, execution and container are kept with their exact times, and so are
// the ended runs, the last of both.
//
// A History takes MaxBytes at most, less where Bound says so, in memory and on disk; Add allocates nothing once it is full.
package history
