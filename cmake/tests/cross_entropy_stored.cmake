unit(cross_entropy_stored)
