package main

import "github.com/spf13/cobra"

// commands gives every command, in the order of the help text.
func commands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(a),
		newInitCmd(a),
		newServeCmd(a),
		newKeygenCmd(a),
		newSignCmd(a),
		newCosignCmd(a),
		newInspectCmd(a),
		newSubmitCmd(a),
		newVoidCmd(a),
		newOpsCmd(a),
		newRecoveryCmd(a),
		newPolicyCmd(a),
		newPvesimCmd(a),
		newVersionCmd(a),
	}
}
