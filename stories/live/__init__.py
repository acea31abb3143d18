"""How viewers follow a story while it is written: publications, the viewer's state machine, snapshots of rows."""
