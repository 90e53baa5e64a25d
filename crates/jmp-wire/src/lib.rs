//! Value codec, byte streams over frames, resources, connections and the authority filter
