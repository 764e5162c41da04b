unit(sampler)
