/** @file version.h
 *  Version of the headers; clf_version() is the version of the library. */
#ifndef CLFORMER_VERSION_H
#define CLFORMER_VERSION_H

#define CLF_VERSION_MAJOR  0       /**< incompatible changes */
#define CLF_VERSION_MINOR  1       /**< additions; before 1.0 also incompatible changes */
#define CLF_VERSION_PATCH  0       /**< corrections */
#define CLF_VERSION_STRING "0.1.0" /**< the three, as text */

#endif
