/* The least auditor, for LD_AUDIT: it is loaded into a namespace of its own and watches nothing. */
unsigned la_version(unsigned version) { return version; }
