package viewtest_test

import (
	"testing"

	"writ/projections"
	"writ/projections/viewtest"
)

func TestMemory(t *testing.T) {
	viewtest.Suite{Open: func(*testing.T) projections.ViewStore { return viewtest.NewMemory() }}.Run(t)
}

func TestFaultyWithoutHooksChangesNothing(t *testing.T) {
	viewtest.Suite{Open: func(*testing.T) projections.ViewStore { return viewtest.NewFaulty(viewtest.NewMemory()) }}.Run(t)
}
