// The methods that have hyperparameters for the resident model, as soon as it is known.

/** Calls `use(methods)` once, now or when the model is there; not any more after the signal. */
export function whenMethodsAreKnown(state, signal, use) {
  const look = () => {
    if (!state.model) return;
    off();
    use(state.model.card.methods.filter(({ defaults }) => defaults));
  };
  const off = state.onChange(look);
  signal.addEventListener("abort", off);
  look();
}
