package demo;

import org.springframework.boot.context.properties.ConfigurationProperties;

/**
 * What this server calls itself.
 *
 * @param address   the address of its pod (GREETING_ADDRESS); without one, the one that a request arrives at
 * @param namespace the namespace of its pod (GREETING_NAMESPACE)
 * @param version   the version of its deployment (GREETING_VERSION)
 */
@ConfigurationProperties("greeting")
public record Identity(String address, String namespace, String version) {
    String endpoint(String arrivedAt, int port) {
        boolean told = address != null && !address.isBlank();
        return "http://" + (told ? address : arrivedAt) + ":" + port;
    }
}
