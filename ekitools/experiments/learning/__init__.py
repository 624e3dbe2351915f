"""Learning algorithms that open the network. They are not public: their interface may change."""
