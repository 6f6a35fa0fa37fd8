package simulation_test

// figures are what was seen over some histories.
type figures struct {
	// What must be nothing.
	Wrong   int `json:"seeds_wrong"`
	Unequal int `json:"seeds_with_two_histories"`
	// Which are the first of both kinds.
	Which   []uint64 `json:"which_seeds,omitempty"`
	Doubles int      `json:"doubles"`
	Losses  int      `json:"losses"`
	False   int      `json:"false_ends"`

	// Disturbed are seeds whose first two plays differed, and the next two not.
	Disturbed int `json:"seeds_disturbed"`

	Seeds   int            `json:"seeds"`
	Kinds   map[string]int `json:"kinds_of_seeds"`
	Hours   float64        `json:"simulated_hours"`
	Steps   int            `json:"steps"`
	Events  map[string]int `json:"events"`
	Answers map[string]int `json:"answers"`
	Failed  map[string]int `json:"failed"`
	Faults  map[string]int `json:"faults"`
	// Classes are the ends of ops in carried histories, by class, and Effects what
	// their requests did on the host.
	Classes map[string]map[string]int `json:"classes,omitempty"`
	Effects map[string]int            `json:"effects,omitempty"`
	// PerSeed tells how many seeds had so many effects, launches, terms, and ops
	// left to people: what happens in most histories, and what in few.
	PerSeed map[string]map[int]int `json:"seeds_by_number_of"`
}

func newFigures() figures {
	return figures{
		Kinds: make(map[string]int), Events: make(map[string]int), Answers: make(map[string]int), Failed: make(map[string]int),
		Faults: make(map[string]int), Classes: make(map[string]map[string]int), Effects: make(map[string]int), PerSeed: make(map[string]map[int]int),
	}
}

// spread notes how much of something one seed had.
func (f *figures) spread(of string, n int) {
	if f.PerSeed[of] == nil {
		f.PerSeed[of] = make(map[int]int)
	}
	f.PerSeed[of][min(n, 12)]++
}

// add adds what was seen elsewhere.
func (f *figures) add(o figures) {
	f.Wrong += o.Wrong
	f.Unequal += o.Unequal
	if f.Which = append(f.Which, o.Which...); len(f.Which) > 20 {
		f.Which = f.Which[:20]
	}
	f.Disturbed += o.Disturbed
	f.Doubles += o.Doubles
	f.Losses += o.Losses
	f.False += o.False
	f.Seeds += o.Seeds
	f.Hours += o.Hours
	f.Steps += o.Steps
	sum(f.Kinds, o.Kinds)
	sum(f.Events, o.Events)
	sum(f.Answers, o.Answers)
	sum(f.Failed, o.Failed)
	sum(f.Faults, o.Faults)
	sum(f.Effects, o.Effects)
	for class, m := range o.Classes {
		if f.Classes[class] == nil {
			f.Classes[class] = make(map[string]int)
		}
		sum(f.Classes[class], m)
	}
	for of, m := range o.PerSeed {
		if f.PerSeed[of] == nil {
			f.PerSeed[of] = make(map[int]int)
		}
		sum(f.PerSeed[of], m)
	}
}

func sum[K comparable](into, from map[K]int) {
	for k, n := range from {
		into[k] += n
	}
}
