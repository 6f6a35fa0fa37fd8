package engine

import "sync"

// maxIdle is how many members of a crew wait for work at most.
const maxIdle = 256

// A crew runs tasks, each at once and beside the others. Who has done one stays
// for the next, unless enough others wait already: a new goroutine begins with
// a small stack, which the verification of a signature makes it grow several
// times.
type crew struct {
	tasks   chan func()   // for those who wait
	waiting chan struct{} // holds one for each of them
	members sync.WaitGroup
}

func newCrew() *crew {
	return &crew{tasks: make(chan func()), waiting: make(chan struct{}, maxIdle)}
}

// run has a task run. Who waits for the next one leaves when over is closed;
// tasks that come later are run all the same.
func (c *crew) run(task func(), over <-chan struct{}) {
	select {
	case c.tasks <- task: // somebody waits
	default:
		c.members.Go(func() { c.serve(task, over) })
	}
}

func (c *crew) serve(task func(), over <-chan struct{}) {
	for {
		task()
		select {
		case c.waiting <- struct{}{}:
		default:
			return
		}
		select {
		case task = <-c.tasks:
			<-c.waiting
		case <-over:
			<-c.waiting
			return
		}
	}
}

// wait returns when everybody has left. It is called when over is closed and
// the last task has been given out.
func (c *crew) wait() { c.members.Wait() }
