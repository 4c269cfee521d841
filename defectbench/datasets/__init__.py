"""Reference datasets: schema, loading, validation, fetching and import."""
