package qos

// Model is the time of one run as a function of its CPUs, T(c) = A + B/c seconds, learnt from the runs seen.
type Model struct {
	A    float64 `json:"a"`    // seconds that more CPUs do not shorten
	B    float64 `json:"b"`    // CPU seconds that they do
	Work float64 `json:"work"` // CPU seconds that one run burns
	Dev  float64 `json:"dev"`  // relative standard deviation seen
	N    int     `json:"n"`    // runs seen
}
