//! Storage through OpenDAL, storage multiplexers and flashers
