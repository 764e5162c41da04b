unit(loss_scale)
