"""A correction of what a teacher says: its forms, how they are fitted to reference labels, the corrected teacher."""
