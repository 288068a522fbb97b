/* version: of the program, in one place. */
#ifndef FS_VERSION_H
#define FS_VERSION_H

#define SPOOLFS_VERSION "0.1.0"

#endif
