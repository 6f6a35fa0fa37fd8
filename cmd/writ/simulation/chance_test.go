package simulation_test

import "time"

// A dice gives numbers that look like chance and follow from its seed alone.
type dice struct{ x uint64 }

func (d *dice) next() uint64 {
	// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
	d.x += 0x9e3779b97f4a7c15
	z := d.x
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// diceFor are the dice of one thing in one history: what they show does not
// depend on when they are thrown, nor on what else is.
func diceFor(seed uint64, thing string, n uint64) dice {
	h := seed*0x9e3779b97f4a7c15 ^ 0xcbf29ce484222325
	for i := range len(thing) {
		h = (h ^ uint64(thing[i])) * 0x100000001b3
	}
	d := dice{h ^ n*0xd6e8feb86659fd93}
	d.next()
	return d
}

// upTo gives one of n numbers from 0 on.
func (d *dice) upTo(n int) int { return int(d.next() % uint64(n)) }

// per1000 tells whether something happens that does so in n of a thousand cases.
func (d *dice) per1000(n int) bool { return d.upTo(1000) < n }

// within gives a time shorter than most.
func (d *dice) within(most time.Duration) time.Duration {
	return time.Duration(d.next() % uint64(most))
}

// between gives a time from least on, shorter than most.
func (d *dice) between(least, most time.Duration) time.Duration { return least + d.within(most-least) }
