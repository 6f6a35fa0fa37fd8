package main

import "github.com/spf13/cobra"

// commands gives every command, in the order of the help text.
func commands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(a),
		newInitCmd(a),
		newServeCmd(a),
		newKeygenCmd(a),
		newPlanCmd(a),
		newSignCmd(a),
		newCosignCmd(a),
		newInspectCmd(a),
		newEnrolCmd(a),
		newDoctorCmd(a),
		newSubmitCmd(a),
		newVoidCmd(a),
		newOpsCmd(a),
		newRecoveryCmd(a),
		newEventsCmd(a),
		newAuditCmd(a),
		newTokenCmd(a),
		newPolicyCmd(a),
		newStoreCmd(a),
		newPvesimCmd(a),
		newEventstoreCmd(a),
		newVersionCmd(a),
	}
}
