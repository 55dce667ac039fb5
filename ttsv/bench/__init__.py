"""How fast the work is done here, against a plain loop in the released form and against what the machine can reach."""
